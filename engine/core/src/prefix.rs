//! Which sequences begin like a prompt: a radix tree over tokens.
//!
//! Each node is a run of tokens and knows the holders whose sequences go through all of it. Two conversations
//! with the same beginning look like this:
//!
//! ```text
//! [You are helpful.]  a, b
//!  ├─ [What is a lark?]  a
//!  └─ [What is a larch?]  b
//! ```

use std::collections::HashMap;
use std::hash::Hash;

use crate::request::{Generate, Scope, TokenId};

/// Sequences that begin like a prompt, computed with the same adapter: those of the prompt's owner, and of others where
/// the prompt begins with what is marked as common to all.
#[derive(Debug)]
pub struct Prefixes<H> {
    own: PrefixTree<H>,
    common: PrefixTree<H>,
}

/// The salt of what is common to all.
const COMMON: u64 = 0;

/// Sequences of holders, each in a scope. A prompt finds only sequences of its own scope.
#[derive(Debug)]
pub struct PrefixTree<H> {
    roots: HashMap<Scope, Node<H>>,
    sequences: HashMap<H, (Scope, Vec<TokenId>)>,
}

/// Tokens that follow the parent's, and what follows them.
#[derive(Debug)]
struct Node<H> {
    run: Vec<TokenId>,
    /// Whose sequences have the whole run.
    holders: Vec<H>,
    /// Their runs begin with different tokens.
    children: Vec<Node<H>>,
}

impl<H> Default for Prefixes<H> {
    fn default() -> Self {
        Self { own: PrefixTree::default(), common: PrefixTree::default() }
    }
}

impl<H: Copy + Eq + Hash> Prefixes<H> {
    /// Notes a holder's sequence in place of what it had. Its first `common` tokens are common to all.
    pub fn insert(&mut self, holder: H, scope: Scope, common: u32, tokens: &[TokenId]) {
        self.remove(holder);
        self.own.insert(holder, scope, tokens);
        if common > 0 {
            let scope = Scope { salt: COMMON, ..scope };
            self.common.insert(holder, scope, &tokens[..tokens.len().min(common as usize)]);
        }
    }

    /// Forgets a holder. Forgetting nobody is no error.
    pub fn remove(&mut self, holder: H) {
        self.own.remove(holder);
        self.common.remove(holder);
    }

    /// The holders whose sequences begin like the request's prompt, and how many tokens they have in common.
    #[must_use]
    pub fn common(&self, request: &Generate) -> HashMap<H, u32> {
        let of_all = &request.prompt[..request.prompt.len().min(request.common as usize)];
        let mut found = self.common.common(Scope { salt: COMMON, ..request.scope() }, of_all);
        // What the owner has is at least as long.
        found.extend(self.own.common(request.scope(), &request.prompt));
        found
    }

    /// The same for a sequence of an owner, whatever is common to all.
    #[must_use]
    pub fn of_owner(&self, scope: Scope, tokens: &[TokenId]) -> HashMap<H, u32> {
        self.own.common(scope, tokens)
    }

    /// Checks what must hold after every change; for tests.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_invariants(&self) {
        self.own.check_invariants();
        self.common.check_invariants();
    }
}

impl<H> Default for PrefixTree<H> {
    fn default() -> Self {
        Self { roots: HashMap::new(), sequences: HashMap::new() }
    }
}

impl<H: Copy + Eq + Hash> PrefixTree<H> {
    /// Notes a holder's sequence in a scope, in place of what it had.
    pub fn insert(&mut self, holder: H, scope: Scope, tokens: &[TokenId]) {
        self.remove(holder);
        self.roots.entry(scope).or_insert_with(Node::root).insert(holder, tokens);
        self.sequences.insert(holder, (scope, tokens.to_vec()));
    }

    /// Forgets a holder's sequence. Forgetting nothing is no error.
    pub fn remove(&mut self, holder: H) {
        let Some((scope, tokens)) = self.sequences.remove(&holder) else { return };
        let root = self.roots.get_mut(&scope).expect("a sequence is under the root of its scope");
        root.remove(holder, &tokens);
        if root.holders.is_empty() {
            self.roots.remove(&scope);
        }
    }

    /// The holders whose sequences begin like these tokens, and how many tokens they have in common, at least one.
    #[must_use]
    pub fn common(&self, scope: Scope, tokens: &[TokenId]) -> HashMap<H, u32> {
        let mut found = HashMap::new();
        let (mut node, mut depth) = (self.roots.get(&scope), 0);
        while let Some(parent) = node {
            let Some(child) = tokens.get(depth).and_then(|first| parent.child(*first)) else { break };
            let common = common_length(&child.run, &tokens[depth..]);
            depth += common;
            let length = u32::try_from(depth).expect("a context is bounded by a u32");
            found.extend(child.holders.iter().map(|holder| (*holder, length)));
            node = (common == child.run.len()).then_some(child);
        }
        found
    }

    /// Checks what must hold after every change; for tests.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_invariants(&self) {
        for root in self.roots.values() {
            assert!(root.run.is_empty());
            root.check(true);
        }
    }
}

impl<H: Copy + Eq> Node<H> {
    fn root() -> Self {
        Self { run: Vec::new(), holders: Vec::new(), children: Vec::new() }
    }

    fn child(&self, first: TokenId) -> Option<&Self> {
        self.children.iter().find(|child| child.run[0] == first)
    }

    fn place(&self, first: TokenId) -> Option<usize> {
        self.children.iter().position(|child| child.run[0] == first)
    }

    /// Adds a sequence below; the holder has all of this node already.
    fn insert(&mut self, holder: H, mut tokens: &[TokenId]) {
        let mut node = self;
        node.holders.push(holder);
        while let Some(first) = tokens.first() {
            let place = node.place(*first).unwrap_or_else(|| {
                node.children.push(Self { run: tokens.to_vec(), holders: Vec::new(), children: Vec::new() });
                node.children.len() - 1
            });
            node = &mut node.children[place];
            let common = common_length(&node.run, tokens);
            node.split(common);
            node.holders.push(holder);
            tokens = &tokens[common..];
        }
    }

    /// Cuts the run, so that it ends after `length` tokens; the rest becomes the only child.
    fn split(&mut self, length: usize) {
        if length == self.run.len() {
            return;
        }
        let run = self.run.split_off(length);
        let rest = Self { run, holders: self.holders.clone(), children: std::mem::take(&mut self.children) };
        self.children.push(rest);
    }

    /// Removes a sequence that was inserted, and the nodes that nobody has any more. A path has at most as many
    /// nodes as there are holders, which bounds the recursion.
    fn remove(&mut self, holder: H, tokens: &[TokenId]) {
        self.holders.retain(|other| *other != holder);
        let Some(first) = tokens.first() else { return };
        let place = self.place(*first).expect("the sequence was inserted");
        let child = &mut self.children[place];
        let length = child.run.len();
        child.remove(holder, &tokens[length..]);
        if child.holders.is_empty() {
            self.children.swap_remove(place);
        } else {
            child.join();
        }
    }

    /// Undoes a cut that has no reason any more: everybody who is here goes on to the only child.
    fn join(&mut self) {
        if let [child] = self.children.as_mut_slice()
            && child.holders.len() == self.holders.len()
        {
            let mut child = self.children.pop().expect("there is one child");
            self.run.append(&mut child.run);
            self.children = child.children;
        }
    }

    fn check(&self, is_root: bool) {
        assert!(is_root || !self.run.is_empty());
        assert!(is_root || !self.holders.is_empty(), "a node that nobody has is removed");
        for (index, child) in self.children.iter().enumerate() {
            assert!(child.holders.iter().all(|holder| self.holders.contains(holder)));
            assert!(self.children[..index].iter().all(|other| other.run[0] != child.run[0]));
            child.check(false);
        }
    }
}

fn common_length(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::AdapterId;
    use proptest::prelude::*;

    fn scope(salt: u64) -> Scope {
        Scope { salt, adapter: AdapterId::NONE }
    }

    fn tokens(ids: &[u32]) -> Vec<TokenId> {
        ids.iter().copied().map(TokenId).collect()
    }

    #[test]
    fn two_that_begin_alike_share_the_beginning() {
        let mut tree = PrefixTree::default();
        tree.insert('a', scope(7), &tokens(&[1, 2, 3, 4]));
        tree.insert('b', scope(7), &tokens(&[1, 2, 5]));
        tree.insert('c', scope(8), &tokens(&[1, 2, 3]));
        let common = |ids: &[u32]| {
            let mut found: Vec<(char, u32)> = tree.common(scope(7), &tokens(ids)).into_iter().collect();
            found.sort_unstable();
            found
        };
        assert_eq!(common(&[1, 2, 3, 9]), [('a', 3), ('b', 2)]);
        assert_eq!(common(&[1, 2, 5, 6, 7]), [('a', 2), ('b', 3)]);
        assert_eq!(common(&[1]), [('a', 1), ('b', 1)]);
        assert_eq!(common(&[2]), []);
        assert_eq!(common(&[]), []);
    }

    #[test]
    fn what_was_computed_with_another_adapter_is_not_alike() {
        let with = |adapter| Scope { salt: 7, adapter: AdapterId(adapter) };
        let mut known = Prefixes::default();
        known.insert('a', with(1), 2, &tokens(&[1, 2, 3]));
        let of = |scope, ids: &[u32]| known.of_owner(scope, &tokens(ids));
        assert_eq!(of(with(1), &[1, 2, 3]), HashMap::from([('a', 3)]));
        assert_eq!(of(with(0), &[1, 2, 3]), HashMap::new());
        let common = |salt, adapter| known.common.common(Scope { salt, ..with(adapter) }, &tokens(&[1, 2]));
        assert_eq!((common(COMMON, 1).len(), common(COMMON, 2).len()), (1, 0));
    }

    #[test]
    fn what_nobody_has_any_more_takes_no_room() {
        let mut tree = PrefixTree::default();
        tree.insert(1, scope(7), &tokens(&[1, 2, 3]));
        tree.insert(2, scope(7), &tokens(&[1, 2, 4]));
        assert_eq!(tree.roots[&scope(7)].children[0].children.len(), 2);
        tree.remove(2);
        assert_eq!(tree.roots[&scope(7)].children[0].run, tokens(&[1, 2, 3]));
        assert_eq!(tree.roots[&scope(7)].children[0].children.len(), 0);
        tree.remove(1);
        assert!(tree.roots.is_empty() && tree.sequences.is_empty());
    }

    /// The same without a tree.
    fn naive(known: &HashMap<u8, (u64, Vec<TokenId>)>, salt: u64, tokens: &[TokenId]) -> HashMap<u8, u32> {
        let common = |sequence: &[TokenId]| u32::try_from(common_length(sequence, tokens)).unwrap();
        let of_salt = known.iter().filter(|(_, (other, _))| *other == salt);
        of_salt.map(|(holder, (_, sequence))| (*holder, common(sequence))).filter(|(_, common)| *common > 0).collect()
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_map_finds(
            changes in proptest::collection::vec(
                (0u64..3, 0u8..6, proptest::option::weighted(0.7, proptest::collection::vec(0u32..3, 0..12))), 1..80),
            asked in proptest::collection::vec(0u32..3, 0..14),
        ) {
            let (mut tree, mut known) = (PrefixTree::default(), HashMap::new());
            let asked = tokens(&asked);
            for (salt, holder, sequence) in changes {
                if let Some(sequence) = sequence {
                    tree.insert(holder, scope(salt), &tokens(&sequence));
                    known.insert(holder, (salt, tokens(&sequence)));
                } else {
                    tree.remove(holder);
                    known.remove(&holder);
                }
                tree.check_invariants();
                for salt in 0..3 {
                    prop_assert_eq!(tree.common(scope(salt), &asked), naive(&known, salt, &asked));
                }
            }
        }
    }
}
