//! What may stand in a source file.

use std::path::Path;

use super::{Problem, files, within};

/// Longer files want splitting.
const LONG_LINES: usize = 600;
/// Where subjects are formatted and read back.
const SUBJECTS: &str = "bus-schema/";
/// Of `bus-schema`, the words of the bus itself: not for runtimes.
const BUS_WORDS: [&str; 13] = [
    "BusRole",
    "DecodeError",
    "EncodeError",
    "Kind",
    "NODE_SERVICE",
    "Permissions",
    "SCHEMA_VERSION",
    "Subject",
    "decode",
    "encode",
    "header",
    "jetstream",
    "signed_bytes",
];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let mut problems = vec![];
    for path in files(root, &|path| path.extension().is_some_and(|e| e == "rs"))? {
        problems.extend(judge(&within(root, &path), &std::fs::read_to_string(&path)?));
    }
    let page = |path: &Path| path.extension().is_some_and(|e| e == "svelte" || e == "ts");
    let dashboard = root.join("dashboard");
    for path in if dashboard.is_dir() { files(&dashboard, &page)? } else { vec![] } {
        problems.extend(judge_page(&within(root, &path), &std::fs::read_to_string(&path)?));
    }
    Ok(problems)
}

/// A line of code without its comment, or of a comment without its code.
fn code_of(line: &str) -> &str {
    let line = line.trim_start();
    if line.starts_with("//") { "" } else { line }
}

fn judge(place: &str, text: &str) -> Vec<Problem> {
    // Words that must not stand here either, lest this file breaks its own rules.
    let (todo, ignore, allow) = (concat!("todo", "!("), concat!("#[", "ignore"), concat!("#[", "allow("));
    let unfinished = [todo, concat!("unimplement", "ed!("), concat!("db", "g!(")];
    let root = concat!("mosaic", ".v1");

    let mut problems = vec![];
    if !text.lines().next().is_some_and(|line| line.starts_with("//!")) {
        problems
            .push(Problem::new(place, "begins without //!: say what the module is for, its laws, and who calls it"));
    }
    if place.ends_with("/mod.rs") {
        problems.push(Problem::new(place, "modules are name.rs with name/child.rs"));
    }
    let lines = text.lines().count();
    if lines > LONG_LINES {
        problems.push(Problem::mild(place, format!("has {lines} lines; a file over {LONG_LINES} wants splitting")));
    }
    let mut in_tests = place.contains("/tests/") || place.contains("/examples/");
    for (n, line) in text.lines().enumerate() {
        let code = code_of(line);
        in_tests |= code.starts_with("#[cfg(test)]");
        let mut broken = |sentence: &str| problems.push(Problem::new(format!("{place}:{}", n + 1), sentence));
        if unfinished.iter().any(|word| code.contains(word)) {
            broken("unfinished or forgotten: finish it or take it out");
        }
        if code.contains(ignore) {
            broken("no test is ignored: assert what holds today and say what is wrong with it");
        }
        if code.contains(allow) || code.contains(&allow.replace("#[", "#![")) {
            broken("an exception from a lint is #[expect(…, reason = \"…\")], so that it goes when it is not needed");
        }
        if !in_tests && !place.starts_with(SUBJECTS) && code.contains(root) {
            broken("only bus-schema formats and splits subjects: use Subject, Kind::filter or Permissions");
        }
    }
    if place.starts_with("providers/src") {
        for word in bus_words(text) {
            let sentence = format!("providers use the domain words of bus-schema, not {word}: they know no bus");
            problems.push(Problem::new(place, sentence));
        }
    }
    problems
}

/// The words of the bus that a file takes from `bus-schema`.
fn bus_words(text: &str) -> Vec<&'static str> {
    let code: Vec<_> = text.lines().map(code_of).collect();
    let code = code.join("\n");
    let mut found = vec![];
    for taken in code.split("bus_schema::").skip(1) {
        // Up to the end of the path, or of the list in braces.
        let end = if taken.starts_with('{') { taken.find('}') } else { taken.find(|c: char| !is_word(c) && c != ':') };
        let taken = taken.get(..end.unwrap_or(taken.len())).unwrap_or_default();
        let words: Vec<_> = taken.split(|c: char| !is_word(c)).collect();
        found.extend(BUS_WORDS.iter().filter(|word| words.contains(word)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn judge_page(place: &str, text: &str) -> Vec<Problem> {
    let html = concat!("{@", "html");
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains(html));
    lines
        .map(|(n, _)| {
            let sentence = "what agents write is never HTML: render it as text";
            Problem::new(format!("{place}:{}", n + 1), sentence)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(place: &str, text: &str) -> String {
        judge(place, text).into_iter().map(|p| format!("{}: {}\n", p.place, p.sentence)).collect()
    }

    #[test]
    fn a_file_as_it_should_be() {
        let text = "//! Something.\n\n// the subject mosaic.v1.w.n.node\nfn f() {}\n";
        assert_eq!(sentences("hub/src/x.rs", text), "");
    }

    #[test]
    fn each_rule_is_told_with_its_place() {
        let text = format!(
            "fn f() {{\n    {};\n}}\n#[{}]\n#[{}(dead_code)]\nlet s = \"{}.w.n.node\";\n",
            concat!("todo", "!()"),
            concat!("ig", "nore"),
            concat!("al", "low"),
            concat!("mosaic", ".v1"),
        );
        let said = sentences("hub/src/x.rs", &text);
        for part in ["without //!", "x.rs:2: unfinished", "x.rs:4: no test", "x.rs:5: an exception", "x.rs:6: only bus"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(sentences("hub/src/api/mod.rs", "//! x\n").contains("name.rs"));
        assert!(sentences("x.rs", &"//! x\n".repeat(601)).contains("601 lines"));
    }

    #[test]
    fn tests_and_the_contract_may_spell_subjects_out() {
        let line = format!("//! x\nlet s = \"{}.w\";\n", concat!("mosaic", ".v1"));
        assert_eq!(sentences("bus-schema/src/subject.rs", &line), "");
        assert_eq!(sentences("hub/tests/x.rs", &line), "");
        let behind = line.replace("let", "#[cfg(test)]\nlet");
        assert_eq!(sentences("hub/src/x.rs", &behind), "");
    }

    #[test]
    fn providers_take_domain_words_only() {
        let text =
            "//! x\nuse bus_schema::{\n    Message, Subject,\n    Session,\n};\nfn f() { bus_schema::encode(&x) }\n";
        assert_eq!(bus_words(text), ["Subject", "encode"]);
        assert_eq!(bus_words("use bus_schema::{Message, MessageKind};\n// bus_schema::Subject\n"), [""; 0]);
        assert!(sentences("providers/src/x.rs", text).contains("not Subject"));
        assert_eq!(sentences("node-agent/src/x.rs", text), "");
    }

    #[test]
    fn nothing_an_agent_wrote_becomes_html() {
        assert_eq!(judge_page("x.svelte", &format!("<p>\n{} x}}\n", concat!("{@", "html"))).len(), 1);
        assert_eq!(judge_page("x.svelte", "<p>{x}</p>").len(), 0);
    }
}
