"""`netspec data`: what there is to know about data before a network sees them."""

from __future__ import annotations

from netspec.cli.verbs import Verbs

command = Verbs(
    name="data",
    help="What there is to know about data before a network sees them.",
    modules="netspec.cli.data_{verb}",
    verbs={
        "lock": "Write what the files of a source are, so that changes are noticed.",
        "inspect": "Counts, sizes, means, copies and labels of a source; a contact sheet.",
        "preview": "Draw training images beside what augmentation makes of them.",
    },
)
