"""What tests of several places need: tiny models, fakes, waiting with a bound."""
