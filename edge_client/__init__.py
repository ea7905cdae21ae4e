"""The program that runs on a board: it trains on local data and uploads sieved updates."""
