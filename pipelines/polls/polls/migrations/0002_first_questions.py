from datetime import datetime, timezone

from django.db import migrations

QUESTIONS = [
    (
        "which-day-is-best-for-a-release",
        "Which day is best for a release?",
        [("Monday", 12), ("Wednesday", 31), ("Friday, what could go wrong", 9), ("Every day", 58)],
    ),
    (
        "how-do-you-go-back-to-yesterday",
        "How do you go back to yesterday’s version?",
        [("One command", 47), ("Revert and build again", 22), ("I fix it forward", 18), ("I don’t", 4)],
    ),
    (
        "tabs-or-spaces",
        "Tabs or spaces?",
        [("Tabs", 21), ("Spaces", 40), ("Whatever the formatter says", 66)],
    ),
]


def ask(apps, schema_editor):
    Question = apps.get_model("polls", "Question")
    Choice = apps.get_model("polls", "Choice")
    for day, (slug, text, choices) in enumerate(QUESTIONS, start=1):
        published = datetime(2026, 1, len(QUESTIONS) + 1 - day, 9, tzinfo=timezone.utc)
        question = Question.objects.create(slug=slug, text=text, published_at=published)
        Choice.objects.bulk_create(Choice(question=question, text=text, votes=votes) for text, votes in choices)


def forget(apps, schema_editor):
    slugs = [slug for slug, _, _ in QUESTIONS]
    apps.get_model("polls", "Question").objects.filter(slug__in=slugs).delete()


class Migration(migrations.Migration):
    dependencies = [("polls", "0001_initial")]
    operations = [migrations.RunPython(ask, forget)]
