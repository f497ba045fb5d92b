"""What tests of several folders need, each thing once. No test lives here, and nothing of the product."""
