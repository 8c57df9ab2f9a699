"""Cases: what advisers did about a student's risk, and who has looked at whom. Both are records on Kafka."""
