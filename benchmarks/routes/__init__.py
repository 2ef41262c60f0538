"""Learned routes to the phases of crystals: each is one class with the contract of `routes.route.Route`."""
