"""A client: one step of SGD on one image of CIFAR-10."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.flower import defend
from recorded.task import DEFENSE, LR, network

app = ClientApp()


@app.train(mods=[defend(DEFENSE, lr=LR)])
def train(message: Message, context: Context) -> Message:
    """One step on the image whose number is that of the client."""
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    image, label = open_dataset(DATASETS.parse("cifar10-sample"), Path())[context.node_config["partition-id"]]
    torch.nn.functional.cross_entropy(model(image[None]), torch.tensor([label])).backward()
    torch.optim.SGD(model.parameters(), lr=LR).step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)
