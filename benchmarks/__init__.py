"""Speed of dquant beside its peers, over loopback; ``README.md`` here says how to run and what came out."""
