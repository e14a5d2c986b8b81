"""The server: FedAvg, recorded."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from leakbench.flower import Recording
from recorded.task import LR, network

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Some rounds of FedAvg with all clients."""
    folder, rounds = context.run_config["folder"], context.run_config["num-server-rounds"]
    strategy = Recording(FedAvg(fraction_evaluate=0.0), folder, lr=LR, local_steps=1, local_batch=1)
    strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=rounds)
