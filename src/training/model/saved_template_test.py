"""What is saved with a language model asks it as it was trained, wherever it is loaded and on whatever day."""

from __future__ import annotations

from pathlib import Path

from src.training.data.prompt_form import PromptForm
from src.training.model.language_model import save_language_model
from src.training.testing.tiny_kinds import CHAT_TEMPLATE, build_tiny_chat_model, build_tiny_chat_tokenizer


def test_the_saved_template_writes_the_date_of_the_training_and_the_saved_model_stops_at_its_end(
    tmp_path: Path,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dated = "{{ strftime_now('%Y-%m-%d') }}" + CHAT_TEMPLATE
    tokenizer = build_tiny_chat_tokenizer(template=dated, eos="<|endoftext|>")
    model = AutoModelForCausalLM.from_pretrained(build_tiny_chat_model(tmp_path / "base", tokenizer=tokenizer))
    form = PromptForm(form="chat")
    asked = form.prompt_ids(tokenizer, "the film")
    save_language_model(model, tokenizer, tmp_path / "saved", stop_ids=form.end_ids(tokenizer), merged=True)

    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    messages = [{"role": "user", "content": "the film"}]
    assert saved.apply_chat_template(messages, add_generation_prompt=True, return_dict=False) == asked
    assert str(saved.decode(asked)).startswith("2024-07-26<|im_start|>")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config.eos_token_id == [2, 0]
