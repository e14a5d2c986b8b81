"""Flower's secure aggregation, SecAgg+: records the sum that is all the server gets.

SecAgg+ (Bell et al. 2020) exists in the older API of flwr alone, whose weights have no names.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from flwr.common import FitIns, FitRes, Parameters, Scalar, parameters_to_ndarrays
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy
from torch import Tensor

from leakbench.core.errors import UserError
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import setting_of

Evaluated = tuple[float | None, dict[str, Scalar]]


class RecordingSum(Strategy):  # type: ignore[misc]  # flwr is not there when types are checked
    """A strategy of the older API, for `SecAggPlusWorkflow`: records each round's sum as one client, "sum".

        strategy = RecordingSum(FedAvg(...), "rounds", list(model.state_dict()), lr=0.1, local_steps=1)

    The sum is that of the updates. Flower weights a client by its number of examples: where these differ,
    it is so many times the weighted mean as there are clients.

    Args:
        strategy: what does the work.
        folder: a new folder for the rounds: `leakbench.federation.rounds` says what is in it.
        names: of the weights, in their order.
        optimizer: of the clients, as far as the server knows it.
        setting: what else it knows of how they train: the fields of `Setting`.

    Raises:
        UserError: the folder holds rounds already, or settings that cannot be; in a round, other weights than
            were named, or what came back from clients is no sum.
    """

    def __init__(
        self,
        strategy: Strategy,
        folder: str | PathLike[str],
        names: Sequence[str],
        optimizer: str = "sgd",
        **setting: Any,
    ):
        self.strategy, self.names = strategy, names
        known = {"optimizer": optimizer, "holds": "updates", **setting}
        self.setting = setting_of("RecordingSum", known)
        self.folder = new_folder(Path(folder))
        self.sent: dict[str, Tensor] = {}

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """See `Strategy`; keeps what is sent."""
        self.sent = self._named(parameters)
        instructions: list[tuple[ClientProxy, FitIns]]
        instructions = self.strategy.configure_fit(server_round, parameters, client_manager)
        return instructions

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """See `Strategy`; records the sum, of which the workflow has put the mean in place of each result."""
        if results:
            write_round(self.folder, server_round, self.sent, {"sum": self._sum(results)}, self.setting)
        aggregated: tuple[Parameters | None, dict[str, Scalar]]
        aggregated = self.strategy.aggregate_fit(server_round, results, failures)
        return aggregated

    def _sum(self, results: list[tuple[ClientProxy, FitRes]]) -> Returned:
        first = results[0][1].parameters
        if any(result.parameters is not first for _, result in results):
            text = "expected the aggregate of SecAggPlusWorkflow in each result, found each client's own"
            raise UserError(f"RecordingSum: {text}; record these with Recording")
        mean, count = self._named(first), len(results)
        change = {name: count * (each.to(self.sent[name]) - self.sent[name]) for name, each in mean.items()}
        return Returned(change, sum(result.num_examples for _, result in results), count)

    def _named(self, parameters: Parameters) -> dict[str, Tensor]:
        arrays = parameters_to_ndarrays(parameters)
        if len(arrays) != len(self.names):
            raise UserError(
                f"RecordingSum: names: expected {len(arrays)}, one for each array, got {len(self.names)}"
            )
        return {name: torch.as_tensor(array) for name, array in zip(self.names, arrays, strict=True)}

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """See `Strategy`."""
        return self.strategy.initialize_parameters(client_manager)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[Any]:
        """See `Strategy`."""
        return list(self.strategy.configure_evaluate(server_round, parameters, client_manager))

    def aggregate_evaluate(self, server_round: int, results: list[Any], failures: list[Any]) -> Evaluated:
        """See `Strategy`."""
        evaluated: Evaluated = self.strategy.aggregate_evaluate(server_round, results, failures)
        return evaluated

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """See `Strategy`."""
        return self.strategy.evaluate(server_round, parameters)  # type: ignore[no-any-return]
