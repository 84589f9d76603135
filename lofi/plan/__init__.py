"""What a sweep will cost, before anybody spends it."""
