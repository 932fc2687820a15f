"""Asks the box, and prints the answer while it comes. Needs ALLERAC_URL (http://allerac.local) and ALLERAC_KEY.

pip install openai
"""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ["ALLERAC_URL"] + "/v1", api_key=os.environ["ALLERAC_KEY"])
stream = client.chat.completions.create(
    model=os.environ.get("ALLERAC_MODEL", "smollm2-135m-instruct"),
    messages=[{"role": "user", "content": "Name a color."}],
    max_tokens=32,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
