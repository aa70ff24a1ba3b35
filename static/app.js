// The page's small script: theme, the tree's keys, folding, following. Everything else is HTML, CSS and htmx.
