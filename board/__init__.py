"""The leaderboard: a fixed protocol (benchmark), entries that can be checked, and the table made of them."""
