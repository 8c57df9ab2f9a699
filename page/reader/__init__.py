"""From the topics into the page's database."""
