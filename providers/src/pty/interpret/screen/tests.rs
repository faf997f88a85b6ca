//! What the screen source finds as messages, and what it takes for furniture.

use super::*;

fn screen() -> Screen {
    Screen::new(TerminalSize { cols: 30, rows: 5 })
}

fn texts(found: &[Found]) -> Vec<String> {
    let text = |found: &Found| match found.speaker {
        Speaker::Agent => found.text.clone(),
        Speaker::User => format!("USER {}", found.text),
    };
    found.iter().map(text).collect()
}

#[test]
fn a_command_gives_what_it_printed() {
    let mut screen = screen();
    screen.output(b"host$ ");
    assert_eq!(screen.quiet(400), []);
    screen.injected("ls -1");
    screen.output(b"ls -1\r\na.txt\r\nb.txt\r\nhost$ ");
    assert_eq!(texts(&screen.quiet(400)), ["a.txt\nb.txt"]);
    screen.injected("true");
    screen.output(b"true\r\nhost$ ");
    assert_eq!(texts(&screen.quiet(400)), Vec::<String>::new());
}

#[test]
fn what_a_person_typed_is_theirs() {
    let mut screen = screen();
    screen.output(b"host$ ");
    screen.quiet(400);
    screen.typed(b"echo hi\r");
    screen.output(b"echo hi\r\nhi\r\nhost$ ");
    assert_eq!(texts(&screen.quiet(400)), ["USER echo hi", "hi"]);
}

#[test]
fn who_types_at_once_is_recognised_too() {
    let mut screen = screen();
    screen.output(b"host$ ");
    screen.typed(b"echo hi\r");
    screen.output(b"echo hi\r\nhi\r\nhost$ ");
    screen.typed(b"true\r");
    screen.output(b"true\r\nhost$ ");
    assert_eq!(texts(&screen.quiet(400)), ["USER echo hi", "hi", "USER true"]);
}

#[test]
fn what_scrolls_away_is_told_once_and_in_full() {
    let mut screen = screen();
    let mut told = vec![];
    let line = |n: usize| format!("line number {n} which is longer than a row is wide");
    for n in 0..500 {
        told.extend(screen.output(format!("{}\r\n", line(n)).as_bytes()).0);
    }
    told.extend(screen.quiet(0));
    told.extend(screen.quiet(400));
    told.extend(screen.finish());
    assert!(told.iter().all(|found| found.text.len() < 2 * MAX_MESSAGE_BYTES));
    let all = texts(&told).join("\n");
    let expected: Vec<String> = (0..500).map(line).collect();
    assert_eq!(all.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_cleared_screen_does_not_tell_again() {
    let mut screen = screen();
    screen.output(b"one\r\ntwo\r\n");
    assert_eq!(texts(&screen.quiet(400)), ["one\ntwo"]);
    screen.output(b"\x1b[H\x1b[2Jtwo\r\nthree\r\n> ");
    assert_eq!(texts(&screen.quiet(400)), ["three"]);
    screen.output(b"x\r\nfour\r\n> ");
    assert_eq!(texts(&screen.quiet(400)), ["> x\nfour"]);
    screen.output(b"\x1b[2;1H\x1b[Kfive\x1b[5;3H");
    assert_eq!(texts(&screen.quiet(400)), ["five"]);
}

#[test]
fn a_painted_screen_tells_new_lines_when_it_is_still() {
    let mut screen = screen();
    screen.output("\x1b[?1049h\x1b[HWelcome\r\n│ hello │\r\n⠋ Working (3s)\r\n> ".as_bytes());
    assert_eq!(screen.quiet(400), []);
    assert_eq!(texts(&screen.quiet(2000)), ["Welcome\nhello\n⠋ Working (3s)"]);
    screen.output("\x1b[2J\x1b[HWelcome\r\n│ hello │\r\nanswer\r\n⠙ Working (14s)\r\n> ".as_bytes());
    screen.settle_soon();
    assert_eq!(texts(&screen.quiet(400)), ["answer"]);
}

#[test]
fn the_last_line_without_end_is_told_at_the_end() {
    let mut screen = screen();
    screen.output(b"one\r\nno newline");
    screen.quiet(400);
    assert_eq!(texts(&screen.finish()), ["no newline"]);
    assert_eq!(texts(&screen.finish()), Vec::<String>::new());
}

#[test]
fn growing_and_shrinking_tells_nothing_twice() {
    let mut screen = screen();
    screen.output(b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n");
    let mut told = screen.quiet(400);
    for rows in [10, 3, 20] {
        told.extend(screen.resize(TerminalSize { cols: 30, rows }));
        told.extend(screen.quiet(400));
    }
    screen.output(b"8\r\n");
    told.extend(screen.quiet(400));
    assert_eq!(texts(&told).join("\n"), "1\n2\n3\n4\n5\n6\n7\n8");
}

#[test]
fn a_typed_text_is_recognised_over_rows_and_only_once() {
    let mut screen = screen();
    let text = "SAY: two files here ;; and then\nSAY: more";
    screen.injected(text);
    screen.output(b"> SAY: two files here ;;\r\n  and then\r\n  SAY: more\r\ntwo files here\r\nSAY: more\r\n");
    assert_eq!(texts(&screen.quiet(400)), ["two files here\nSAY: more"]);
    screen.output(b"> SAY: two files here ;; and then\r\n");
    assert_eq!(texts(&screen.quiet(400)), ["> SAY: two files here ;; and\nthen"].map(|s| s.replace('\n', " ")));
}
