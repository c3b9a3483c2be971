"""Lipschitz constraints and their audit, after kexue.fm/archives/6051; usable on any torch module."""

from lightning_modules.lipschitz.audit import Audit, audit
from lightning_modules.lipschitz.constraint import CONSTRAINTS, Constraint, ConstraintName, constraint

__all__ = ["CONSTRAINTS", "Audit", "Constraint", "ConstraintName", "audit", "constraint"]
