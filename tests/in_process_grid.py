"""Flower without processes: a Grid that hands each message to a ClientApp in this process.

Flower's own simulation needs ray, 220 MB of it. Knows flwr 1.41, of which it sets one private class.
"""

from copy import deepcopy

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class InProcessGrid(Grid):
    """Nodes 101, 102, ... that run one app; `dead(node, message)` says whose reply never comes."""

    def __init__(self, app, nodes, dead=lambda node, message: False):
        self.app, self.dead = app, dead
        self.contexts = {
            101 + number: Context(1, 101 + number, {"partition-id": number}, RecordDict(), {})
            for number in range(nodes)
        }
        self.replies = {}
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, SUPERLINK_NODE_ID

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        return Run.create_empty(1)

    def create_message(self, *arguments, **options):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.contexts)

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        return [
            deepcopy(self.app(deepcopy(message), self.contexts[message.metadata.dst_node_id]))
            for message in messages  # copies: in one process both sides would have the same records
            if not self.dead(message.metadata.dst_node_id, message)
        ]
