"""The conversations that are kept for their owners."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "chatproxy_conversations",
        sa.Column("application", sa.String(200), primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary),
    )
    op.create_index(
        "chatproxy_conversations_by_revision",
        "chatproxy_conversations",
        ["application", "owner", "revision"],
    )
    op.create_table(
        "chatproxy_conversation_totals",
        sa.Column("application", sa.String(200), primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop both, with all that is in them."""
    op.drop_table("chatproxy_conversation_totals")
    op.drop_table("chatproxy_conversations")
