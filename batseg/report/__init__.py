"""Tables, figures and pages from finished numbers and arrays; nothing is computed here that a table could hold."""
