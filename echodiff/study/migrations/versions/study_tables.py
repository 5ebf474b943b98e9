"""Create the tables of a study."""

import sqlalchemy as sa
from alembic import op
from alembic.op import f

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

LEFT = "NOT (state IN ('withdrawn', 'erased'))"


def upgrade() -> None:
    """Create all tables, those that others refer to first."""
    create_study()
    create_admin_user()
    create_image()
    create_reader()
    create_admin_session()
    create_caption()
    create_event()
    create_reader_name()
    create_task()
    create_rating()


def create_study() -> None:
    op.create_table(
        "study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'paused', 'closed')", name=f("ck_study_state")),
        sa.PrimaryKeyConstraint("id", name=f("pk_study")),
        sa.UniqueConstraint("key", name=f("uq_study_key")),
    )


def create_admin_user() -> None:
    op.create_table(
        "admin_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=f("fk_admin_user_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_admin_user")),
        sa.UniqueConstraint("study_id", "name", name=f("uq_admin_user_study_id_name")),
    )


def create_image() -> None:
    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=16), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("patient", sa.Text(), nullable=True),
        sa.Column("truth", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "pool IN ('main', 'shared', 'practice', 'companion')", name=f("ck_image_pool")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=f("fk_image_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_image")),
        sa.UniqueConstraint("study_id", "token", name=f("uq_image_study_id_token")),
    )


def create_reader() -> None:
    op.create_table(
        "reader",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("invitation", sa.String(length=64), nullable=True),
        sa.Column("session_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("consent_version", sa.String(length=64), nullable=True),
        sa.Column("consent_language", sa.String(length=8), nullable=True),
        sa.Column("consent_sha256", sa.String(length=64), nullable=True),
        sa.Column("consented", sa.DateTime(timezone=True), nullable=True),
        sa.Column("questionnaire", sa.JSON(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('reader', 'annotator')", name=f("ck_reader_role")),
        sa.CheckConstraint(
            "state IN ('invited', 'consented', 'practising', 'rating', 'done', 'withdrawn', "
            "'erased')",
            name=f("ck_reader_state"),
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=f("fk_reader_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_reader")),
        sa.UniqueConstraint("invitation", name=f("uq_reader_invitation")),
        sa.UniqueConstraint("study_id", "token", name=f("uq_reader_study_id_token")),
    )
    op.create_index(
        "uq_reader_sequence_taken",
        "reader",
        ["study_id", "sequence"],
        unique=True,
        sqlite_where=sa.text(LEFT),
        postgresql_where=sa.text(LEFT),
    )


def create_admin_session() -> None:
    op.create_table(
        "admin_session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["admin_user.id"],
            name=f("fk_admin_session_user_id_admin_user"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_admin_session")),
        sa.UniqueConstraint("token", name=f("uq_admin_session_token")),
    )


def create_caption() -> None:
    op.create_table(
        "caption",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=True),
        sa.Column("file_name", sa.String(length=512), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["reader.id"], name=f("fk_caption_reader_id_reader"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=f("fk_caption_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_caption")),
        sa.UniqueConstraint("study_id", "file_name", name=f("uq_caption_study_id_file_name")),
    )


def create_event() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["reader.id"], name=f("fk_event_reader_id_reader"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=f("fk_event_study_id_study"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_event")),
    )
    op.create_index(f("ix_event_study_id_time"), "event", ["study_id", "time"])


def create_reader_name() -> None:
    op.create_table(
        "reader_name",
        sa.Column("reader_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.String(length=10), nullable=True),
        sa.ForeignKeyConstraint(
            ["reader_id"],
            ["reader.id"],
            name=f("fk_reader_name_reader_id_reader"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("reader_id", name=f("pk_reader_name")),
    )


def create_task() -> None:
    op.create_table(
        "task",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("reader_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("companion_token", sa.String(length=32), nullable=True),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("companion_id", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("condition", sa.String(length=16), nullable=False),
        sa.Column("sitting", sa.Integer(), nullable=False),
        sa.CheckConstraint("condition IN ('', 'without', 'with')", name=f("ck_task_condition")),
        sa.CheckConstraint(
            "kind IN ('practice', 'main', 'shared', 'repeat')", name=f("ck_task_kind")
        ),
        sa.ForeignKeyConstraint(
            ["companion_id"],
            ["image.id"],
            name=f("fk_task_companion_id_image"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=f("fk_task_image_id_image"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["reader.id"], name=f("fk_task_reader_id_reader"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_task")),
        sa.UniqueConstraint("companion_token", name=f("uq_task_companion_token")),
        sa.UniqueConstraint("reader_id", "position", name=f("uq_task_reader_id_position")),
        sa.UniqueConstraint("token", name=f("uq_task_token")),
    )


def create_rating() -> None:
    op.create_table(
        "rating",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("walls_not_visible", sa.Boolean(), nullable=False),
        sa.Column("unnatural_artifacts", sa.Boolean(), nullable=False),
        sa.Column("possible_pathology", sa.Boolean(), nullable=False),
        sa.Column("cropped_image", sa.Boolean(), nullable=False),
        sa.Column("unnatural_destruction", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("structured", sa.JSON(), nullable=False),
        sa.Column("ms", sa.Integer(), nullable=True),
        sa.Column("display", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("ms >= 0", name=f("ck_rating_ms")),
        sa.CheckConstraint("score BETWEEN 1 AND 5", name=f("ck_rating_score")),
        sa.ForeignKeyConstraint(
            ["task_id"], ["task.id"], name=f("fk_rating_task_id_task"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=f("pk_rating")),
        sa.UniqueConstraint("task_id", name=f("uq_rating_task_id")),
    )


def downgrade() -> None:
    """Drop all tables, with every rating in them."""
    for table in (
        "rating",
        "task",
        "reader_name",
        "event",
        "caption",
        "admin_session",
        "reader",
        "image",
        "admin_user",
        "study",
    ):
        op.drop_table(table)
