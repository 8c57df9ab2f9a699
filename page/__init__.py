"""The advisers' page: whom to contact first, why, and what came of it. A process of its own: `faust -A app page`."""
