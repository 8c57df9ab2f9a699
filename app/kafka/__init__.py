"""Faust's Kafka transport, carrying whole fetches instead of single messages."""
