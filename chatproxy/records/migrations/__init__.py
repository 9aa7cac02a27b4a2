"""The migrations of the records' tables, in the form that Alembic has them."""
