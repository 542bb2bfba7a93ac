from django.contrib import admin

from .models import Choice, Question


class ChoiceInline(admin.TabularInline):
    model = Choice
    extra = 2
    readonly_fields = ["votes"]


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    list_display = ["text", "published_at"]
    list_filter = ["published_at"]
    search_fields = ["text"]
    prepopulated_fields = {"slug": ["text"]}
    inlines = [ChoiceInline]
