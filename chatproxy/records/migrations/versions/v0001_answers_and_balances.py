"""Answers that have ended, and what the balance was at some times."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "chatproxy_answers",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("application", sa.String(200), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("upstream", sa.String(200), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("first_event_ms", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(20)),
        sa.Column("refusal", sa.String(50)),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("usage_source", sa.String(20), nullable=False),
        sa.Column("usage_spread", sa.Float),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("currency", sa.String(3)),
        sa.Column("saved_at_most", sa.BigInteger),
        sa.Column("saved_likely", sa.BigInteger),
        sa.Column("saved_likely_from", sa.BigInteger),
        sa.Column("saved_likely_to", sa.BigInteger),
        sa.Column("receipt", sa.JSON),
    )
    op.create_index("chatproxy_answers_by_time", "chatproxy_answers", ["ended_at"])
    op.create_index("chatproxy_answers_by_owner", "chatproxy_answers", ["owner", "ended_at"])
    op.create_table(
        "chatproxy_balances",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("balance_nano", sa.BigInteger, nullable=False),
        sa.Column("is_start", sa.Boolean, nullable=False),
    )
    op.create_index("chatproxy_balances_by_account", "chatproxy_balances", ["account", "at"])


def downgrade() -> None:
    """Drop both, with all that is in them."""
    op.drop_table("chatproxy_balances")
    op.drop_table("chatproxy_answers")
