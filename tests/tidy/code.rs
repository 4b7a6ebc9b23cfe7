//! Reads Rust as tokens and tells what the rules need: paths, macro calls, functions, attributes.
//!
//! Tokens and not text, so that comments and strings never count; not a syntax tree, so that what stands
//! inside macros counts too.

use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// What one file says.
#[derive(Default)]
pub(crate) struct Facts {
    /// Every path, with `use` trees spread out and `self`, `super` and `crate` resolved.
    pub(crate) paths: Vec<CodePath>,
    /// Every macro call, by the last segment of its name.
    pub(crate) macros: Vec<Name>,
    /// Every attribute, by its path.
    pub(crate) attributes: Vec<Name>,
    /// Every function that has a body.
    pub(crate) functions: Vec<Function>,
    /// The modules in other files that only test builds have, by `#[cfg(test)] mod name;`.
    pub(crate) test_modules: Vec<Vec<String>>,
}

/// A path in code or in a `use`.
pub(crate) struct CodePath {
    /// Its segments. The first is `crate` for a path into this crate.
    pub(crate) segments: Vec<String>,
    /// What is done with it.
    pub(crate) usage: Usage,
    /// Where it stands.
    pub(crate) place: Place,
}

/// What code does with a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Brings it into scope.
    Imports,
    /// Calls it.
    Calls,
    /// Neither.
    Mentions,
}

/// A name and where it stands.
pub(crate) struct Name {
    /// The name.
    pub(crate) name: String,
    /// Where it stands.
    pub(crate) place: Place,
}

/// A function with a body.
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`.
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// A line, and whether only test builds hold it.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Counted from one.
    pub(crate) line: usize,
    /// Inside a test, a test module or a test file.
    pub(crate) test: bool,
}

/// The facts of `text`, the content of `file`, which is `for_tests` or not; the line of what cannot be read otherwise.
pub(crate) fn read(file: &str, for_tests: bool, text: &str) -> Result<Facts, usize> {
    let tokens = TokenStream::from_str(text).map_err(|error| error.span().start().line)?;
    let mut reader = Reader {
        module: module_of(file),
        facts: Facts::default(),
    };
    reader.read(tokens, for_tests);
    Ok(reader.facts)
}

/// The module path of a source file: `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
pub(crate) fn module_of(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<String> = path.split('/').map(String::from).collect();
    if module.last().is_some_and(|name| name == "mod") || ["lib", "main"].contains(&path) {
        module.pop();
    }
    module
}

struct Reader {
    module: Vec<String>,
    facts: Facts,
}

impl Reader {
    fn read(&mut self, stream: TokenStream, test: bool) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let mut item_is_test = test;
        let mut at = 0;
        while at < tokens.len() {
            let (before, rest) = tokens.split_at(at);
            let line = rest[0].span().start().line;
            let place = Place {
                line,
                test: item_is_test,
            };
            if let [token, TokenTree::Group(attribute), ..] = rest
                && is_punct(token, '#')
                && attribute.delimiter() == Delimiter::Bracket
            {
                item_is_test |= self.attribute(attribute.stream(), place);
                at += 2;
                continue;
            }
            at += self.item(before, rest, place);
            if tokens
                .get(at - 1)
                .is_some_and(|last| is_punct(last, ';') || is_braced(last))
            {
                item_is_test = test;
            }
        }
    }

    /// Reads what stands at the start of `rest` and returns how many tokens that was.
    fn item(&mut self, before: &[TokenTree], rest: &[TokenTree], place: Place) -> usize {
        match rest {
            [TokenTree::Ident(word), TokenTree::Ident(name), next, ..] if *word == "mod" => {
                self.module.push(name.to_string());
                if let TokenTree::Group(body) = next {
                    self.read(body.stream(), place.test);
                } else if place.test {
                    self.facts.test_modules.push(self.module.clone());
                }
                self.module.pop();
                3
            }
            [TokenTree::Ident(word), ..] if *word == "use" => {
                let end = rest
                    .iter()
                    .position(|token| is_punct(token, ';'))
                    .unwrap_or(rest.len() - 1);
                self.use_tree(&rest[1..end], &[], place);
                end + 1
            }
            [TokenTree::Ident(word), TokenTree::Ident(name), ..] if *word == "fn" => {
                self.function(name.to_string(), place.line, &rest[2..]);
                2
            }
            [TokenTree::Ident(_), ..] => self.path(rest, follows_a_dot(before), place),
            [TokenTree::Group(group), ..] => {
                self.read(group.stream(), place.test);
                1
            }
            _ => 1,
        }
    }

    /// Notes an attribute and tells whether what follows is for tests only.
    fn attribute(&mut self, stream: TokenStream, place: Place) -> bool {
        let text = stream.to_string().replace(' ', "");
        let name = text
            .split(['(', '='])
            .next()
            .unwrap_or_default()
            .to_string();
        // A measurement takes minutes and a generator writes files: both say so, and are no tests.
        let name = match text.strip_prefix("ignore=\"") {
            Some(reason) if reason.starts_with("ameasurement") || reason.starts_with("writes") => {
                "ignore with a reason".to_string()
            }
            _ => name,
        };
        let for_tests = name == "test" || name.ends_with("::test") || text.starts_with("cfg(test");
        self.facts.attributes.push(Name { name, place });
        self.read(stream, place.test);
        for_tests
    }

    fn function(&mut self, name: String, line: usize, rest: &[TokenTree]) {
        let body = rest
            .iter()
            .take_while(|token| !is_punct(token, ';'))
            .find(|token| is_braced(token));
        if let Some(body) = body {
            let lines = body.span().end().line - line + 1;
            self.facts.functions.push(Function { name, line, lines });
        }
    }

    /// Notes the path at the start of `rest` and returns how many tokens it has.
    fn path(&mut self, rest: &[TokenTree], is_field: bool, place: Place) -> usize {
        let mut segments = Vec::new();
        let mut used = 0;
        while let Some(TokenTree::Ident(segment)) = rest.get(used) {
            segments.push(segment.to_string());
            used += 1;
            match (rest.get(used), rest.get(used + 1), rest.get(used + 2)) {
                (Some(a), Some(b), Some(TokenTree::Ident(_)))
                    if is_punct(a, ':') && is_punct(b, ':') =>
                {
                    used += 2
                }
                _ => break,
            }
        }
        let next = rest.get(used);
        let name = segments.last().cloned().unwrap_or_default();
        let is_macro = next.is_some_and(|token| is_punct(token, '!'))
            && matches!(rest.get(used + 1), Some(TokenTree::Group(_)));
        let is_call = matches!(next, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis);
        if is_macro {
            self.facts.macros.push(Name { name, place });
        }
        if !is_field {
            let usage = if is_call {
                Usage::Calls
            } else {
                Usage::Mentions
            };
            self.note(segments, usage, place);
        }
        used
    }

    fn use_tree(&mut self, tokens: &[TokenTree], prefix: &[String], place: Place) {
        for branch in tokens.split(|token| is_punct(token, ',')) {
            let mut segments = prefix.to_vec();
            let mut spread = false;
            for token in branch {
                match token {
                    TokenTree::Ident(word) if *word == "as" => break,
                    TokenTree::Ident(word) => segments.push(word.to_string()),
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.use_tree(&inner, &segments, place);
                        spread = true;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if !spread && segments.len() > prefix.len() {
                let line = branch
                    .first()
                    .map_or(place.line, |token| token.span().start().line);
                self.note(segments, Usage::Imports, Place { line, ..place });
            }
        }
    }

    fn note(&mut self, segments: Vec<String>, usage: Usage, place: Place) {
        let segments = self.resolve(segments);
        self.facts.paths.push(CodePath {
            segments,
            usage,
            place,
        });
    }

    /// `self::` and `super::` as `crate::` paths.
    fn resolve(&self, segments: Vec<String>) -> Vec<String> {
        if !segments
            .first()
            .is_some_and(|first| first == "self" || first == "super")
            || segments.len() == 1
        {
            return segments;
        }
        let ups = segments
            .iter()
            .filter(|segment| *segment == "super")
            .count();
        let kept = self.module.len().saturating_sub(ups);
        let tail = segments
            .into_iter()
            .filter(|segment| segment != "self" && segment != "super");
        std::iter::once("crate".to_string())
            .chain(self.module[..kept].iter().cloned())
            .chain(tail)
            .collect()
    }
}

/// Whether what comes next is a field or a method, which is no path; after `..` it is one.
fn follows_a_dot(before: &[TokenTree]) -> bool {
    match before {
        [.., a, b] if is_punct(a, '.') && is_punct(b, '.') => false,
        [.., token] => is_punct(token, '.'),
        [] => false,
    }
}

fn is_braced(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}
