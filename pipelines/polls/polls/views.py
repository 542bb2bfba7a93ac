from django.db.models import F
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from .models import Question


def index(request):
    return render(request, "polls/index.html", {"questions": Question.objects.published()})


def question(request, slug):
    asked = get_object_or_404(Question.objects.published(), slug=slug)
    choices = list(asked.choices.all())
    for choice in choices:
        choice.share = round(100 * choice.votes / asked.total) if asked.total else 0
    voted = request.session.get("voted", [])
    return render(request, "polls/question.html", {"question": asked, "choices": choices, "voted": slug in voted})


@require_POST
def vote(request, slug):
    asked = get_object_or_404(Question.objects.published(), slug=slug)
    voted = request.session.setdefault("voted", [])
    choice = get_object_or_404(asked.choices, pk=request.POST.get("choice") or 0)
    if slug not in voted:
        asked.choices.filter(pk=choice.pk).update(votes=F("votes") + 1)
        request.session["voted"] = [*voted, slug]
    return redirect(asked)
