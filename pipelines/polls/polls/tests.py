from datetime import timedelta

from django.test import TestCase
from django.urls import reverse
from django.utils import timezone

from .models import Question


class Polls(TestCase):
    def test_the_first_questions_are_listed(self):
        response = self.client.get(reverse("polls:index"))
        self.assertContains(response, "Which day is best for a release?")
        self.assertContains(response, "110 votes")

    def test_what_is_not_published_cannot_be_seen(self):
        draft = Question.objects.create(text="Draft?", slug="draft")
        later = Question.objects.create(text="Later?", slug="later", published_at=timezone.now() + timedelta(days=1))
        for question in (draft, later):
            question.choices.create(text="Yes")
            self.assertEqual(self.client.get(question.get_absolute_url()).status_code, 404)
            self.assertNotContains(self.client.get(reverse("polls:index")), question.text)

    def test_a_vote_counts_once(self):
        question = Question.objects.get(slug="tabs-or-spaces")
        choice = question.choices.get(text="Tabs")
        for _ in range(2):
            response = self.client.post(reverse("polls:vote", args=[question.slug]), {"choice": choice.pk})
            self.assertRedirects(response, question.get_absolute_url())
        choice.refresh_from_db()
        self.assertEqual(choice.votes, 22)

    def test_a_choice_of_another_question_is_refused(self):
        question, other = Question.objects.published()[:2]
        choice = other.choices.first()
        response = self.client.post(reverse("polls:vote", args=[question.slug]), {"choice": choice.pk})
        self.assertEqual(response.status_code, 404)

    def test_passwords_are_hashed_by_native_code(self):
        from django.contrib.auth.hashers import check_password, make_password

        encoded = make_password("correct horse")
        self.assertTrue(encoded.startswith("argon2$argon2id$"))
        self.assertTrue(check_password("correct horse", encoded))
