"""Statements of the articles as executable claims: a probe measures, a rule judges, the store keeps the evidence."""
