"""A small server over one model: OpenAI's interface, llama.cpp's and TGI's for editors, and a chat page."""
