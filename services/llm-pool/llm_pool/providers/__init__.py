"""Providers: how one deployment is asked, by protocol.

`defaults` knows the groups that are served when no configuration file is given. `direct` speaks the
Anthropic, OpenAI and Ollama protocols over the pool's own connections, with LiteLLM translating the
request; `generic` hands any other provider to LiteLLM whole.
"""
