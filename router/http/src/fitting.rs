//! Makes a conversation fit a model, where its client would rather lose the oldest of it than be refused.

use allerac_engine_link::protocol::PromptInput;
use allerac_wire::{ChatRequest, Message, Role};

use crate::chat::Talk;
use crate::error::ApiError;
use crate::prepare::{Ask, Loaded, tokenise};

/// The part of a context that is left for an answer whose length is left open, one in so many.
const ANSWER_SHARE: u32 = 8;

/// Leaves out turns, oldest first, until the prompt and the answer that is asked for fit. A turn begins with what a user
/// says, and goes as a whole: no tool's answer is left without its call. Instructions and the last turn stay, and where
/// they are too long by themselves nothing is left out.
pub(crate) async fn fit(loaded: &Loaded, ask: &mut Ask) -> Result<(), ApiError> {
    let Ask::Chat(request) = ask else { return Ok(()) };
    if !request.options.drops_oldest || fits(loaded, request).await? {
        return Ok(());
    }
    let begins = turns(&request.messages);
    // The fewer turns, the fewer tokens: the first beginning that fits is found by halving.
    let (mut first, mut end) = (0, begins.len());
    while first < end {
        let middle = first.midpoint(end);
        let shorter = ChatRequest { messages: from(&request.messages, begins[middle]), ..(**request).clone() };
        if fits(loaded, &shorter).await? {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    if let Some(begin) = begins.get(first) {
        request.messages = from(&request.messages, *begin);
    }
    Ok(())
}

async fn fits(loaded: &Loaded, request: &ChatRequest) -> Result<bool, ApiError> {
    let input = PromptInput::Chat(Talk::new(request, &loaded.info)?.input);
    let prompt = tokenise(&loaded.lease, &Ask::Chat(Box::new(request.clone())), input, None).await?;
    let (context, options) = (loaded.info.context, &request.options);
    let share = context / ANSWER_SHARE;
    let answer = match options.max_tokens {
        Some(wanted) if options.cuts_to_context => wanted.min(share),
        wanted => wanted.unwrap_or(share),
    };
    Ok(prompt.tokens.len() + answer as usize <= context as usize)
}

/// Where turns begin: with what a user says, unless a tool's answer to what was called before is still to come.
fn turns(messages: &[Message]) -> Vec<usize> {
    let begins = |index: &usize| {
        let next = messages[*index..].iter().find(|message| !matches!(message.role, Role::User | Role::System));
        messages[*index].role == Role::User && next.is_none_or(|next| next.role != Role::Tool)
    };
    (0..messages.len()).filter(begins).collect()
}

/// The conversation from there on, with all instructions.
fn from(messages: &[Message], begin: usize) -> Vec<Message> {
    let numbered = messages.iter().enumerate();
    let stays = |(index, message): &(usize, &Message)| *index >= begin || message.role == Role::System;
    numbered.filter(stays).map(|(_, message)| message.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_as_a_whole_and_instructions_stay() {
        let say = |role| Message::text(role, "");
        let roles = [Role::System, Role::User, Role::Assistant, Role::Tool, Role::System, Role::User, Role::Assistant];
        let messages: Vec<_> = roles.into_iter().map(say).collect();
        assert_eq!(turns(&messages), [1, 5]);
        let roles = [Role::User, Role::Assistant, Role::Tool, Role::User, Role::Tool, Role::Assistant, Role::User];
        assert_eq!(turns(&roles.map(say)), [0, 6]);
        let left: Vec<_> = from(&messages, 5).iter().map(|message| message.role).collect();
        assert_eq!(left, [Role::System, Role::System, Role::User, Role::Assistant]);
    }
}
