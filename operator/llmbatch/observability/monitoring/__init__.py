"""What is made of the metrics: the dashboard, the alerts and a page of the documentation."""
