from django.urls import path

from . import views

app_name = "polls"
urlpatterns = [
    path("", views.index, name="index"),
    path("<slug:slug>/", views.question, name="question"),
    path("<slug:slug>/vote/", views.vote, name="vote"),
]
