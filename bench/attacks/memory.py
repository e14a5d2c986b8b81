"""Computes how much memory a batch needs, before it is created."""

from torch import Tensor, nn
from torch.fx import GraphModule, Node

from leakbench.bench.modalities import Spec

# measured on 9.6 and 22.7 million weights, every attack on texts, batches of 1 and 4, 8 trials in one worker
TEXT_TRIAL = 300 * 2**20  # bytes, whatever the model
TEXT_COPIES = 24  # of the weights: four victims are kept with their gradients; an attack computes in float64
SCORE_COPIES = 4  # of the scores of all pieces, with their derivatives


def held_bytes(*owners: object) -> int:
    """The bytes of all tensors that are attributes of the owners, or in dicts that are."""
    total = 0
    for owner in owners:
        for value in vars(owner).values():
            for each in value.values() if isinstance(value, dict) else [value]:
                total += each.nbytes if isinstance(each, Tensor) else 0
    return total


def text_bytes(network: nn.Module, spec: Spec) -> int:
    """The most bytes that attacks on texts take, one after the other, with the victims that they attack."""
    longest, pieces = spec.shape
    weights = sum(each.nbytes for each in network.parameters())
    scores = 4 * spec.count * longest * pieces if spec.masked else 0
    return TEXT_TRIAL + TEXT_COPIES * weights + SCORE_COPIES * scores


def peak_bytes(operations: GraphModule) -> int:
    """The most bytes that the intermediate results of recorded operations take at any time."""
    nodes = [node for node in operations.graph.nodes if node.op != "placeholder"]
    source = {node: _storage(node) for node in nodes}
    last_use = {source[used]: node for node in nodes for used in node.all_input_nodes if used in source}
    alive: dict[Node, int] = {}
    peak = 0
    for node in nodes:
        if source[node] is node and node.op == "call_function":
            alive[node] = _bytes(node)
            peak = max(peak, sum(alive.values()))
        for used in [each for each in alive if last_use.get(each) is node]:
            del alive[used]
    return peak


def _storage(node: Node) -> Node:
    """The node whose result this node's result is a view of; otherwise the node itself."""
    while node.op == "call_function" and (
        getattr(node.target, "is_view", False) or node.target.__name__ == "getitem"  # type: ignore[union-attr]
    ):
        node = node.all_input_nodes[0]
    return node


def _bytes(node: Node) -> int:
    value = node.meta["val"]
    tensors = value if isinstance(value, tuple | list) else [value]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))
