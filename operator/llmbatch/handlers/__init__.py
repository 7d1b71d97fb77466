"""kopf: watching the three kinds, and handing each event on."""
