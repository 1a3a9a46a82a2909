"""The price of not knowing: every policy under the ladder of clairvoyant bounds, on several workloads and loads (`make headline`)."""
