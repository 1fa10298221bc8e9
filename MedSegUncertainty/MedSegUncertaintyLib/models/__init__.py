"""Model families and the contract they share."""
