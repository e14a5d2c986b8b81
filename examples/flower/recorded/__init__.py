"""A Flower app whose server records what it sees."""
