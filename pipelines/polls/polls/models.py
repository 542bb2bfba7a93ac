from django.db import models
from django.urls import reverse
from django.utils import timezone


class QuestionSet(models.QuerySet):
    def published(self):
        """What readers may see: no drafts, nothing of the future, and only questions that can be answered."""
        asked = self.filter(published_at__lte=timezone.now(), choices__isnull=False)
        return asked.annotate(total=models.Sum("choices__votes")).order_by("-published_at", "pk")


class Question(models.Model):
    text = models.CharField(max_length=200)
    slug = models.SlugField(unique=True)
    published_at = models.DateTimeField("published", null=True, blank=True)

    objects = QuestionSet.as_manager()

    def __str__(self):
        return self.text

    def get_absolute_url(self):
        return reverse("polls:question", args=[self.slug])


class Choice(models.Model):
    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="choices")
    text = models.CharField(max_length=100)
    votes = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.text
