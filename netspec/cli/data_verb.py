"""`netspec data`: what there is to know about data before a network sees them."""

from __future__ import annotations

from netspec.cli.verbs import Verbs

command = Verbs(
    name="data",
    help="What there is to know about data before a network sees them.",
    modules="netspec.cli.data_{verb}",
    verbs={
        "preview": "Draw training images beside what augmentation makes of them.",
    },
)
