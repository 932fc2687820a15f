"""What all of LangChain's standard suites are told here."""

from langchain_tests.integration_tests import ChatModelIntegrationTests

from where import MODEL


class Standard(ChatModelIntegrationTests):
    """The model reads no pictures and no sound: tests that send them are not for it."""

    @property
    def model_override_value(self):
        return MODEL
