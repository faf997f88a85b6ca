//! Rows of the audit log as CSV (RFC 4180), for people with a spreadsheet. Pure.
//!
//! Law: no cell is a formula. One that a spreadsheet would take for one (it begins with `=`, `+`, `-`, `@`, a tab or a
//! line end) has an apostrophe before it: what agents and strangers write stands in these rows.

use serde_json::Value;

/// First line: the columns.
pub(super) const HEAD: &str = "n,timestamp,phase,action,result,user,email,role,sessionId,node,content,detail,requestId,actionId,metadata,prev,hash\r\n";

/// Where each column is in a row.
const COLUMNS: [&str; 17] = [
    "/n",
    "/timestamp",
    "/phase",
    "/action",
    "/result",
    "/user/name",
    "/user/email",
    "/user/role",
    "/sessionId",
    "/node",
    "/content",
    "/detail",
    "/requestId",
    "/actionId",
    "/metadata",
    "/prev",
    "/hash",
];

/// Adds a row, given as JSON. One that is no JSON stands in the first column as it is.
pub(super) fn line(text: &mut String, row: &str) {
    let value = serde_json::from_str(row).unwrap_or_else(|_| serde_json::json!({ "n": row }));
    for (i, column) in COLUMNS.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        match value.pointer(column) {
            None | Some(Value::Null) => {}
            Some(Value::String(found)) => cell(text, found),
            Some(other) => cell(text, &other.to_string()),
        }
    }
    text.push_str("\r\n");
}

fn cell(text: &mut String, found: &str) {
    text.push('"');
    if found.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        text.push('\'');
    }
    text.push_str(&found.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula_and_every_row_has_every_column() {
        let row = serde_json::json!({
            "n": 7, "user": {"name": "=HYPERLINK(\"http://evil\")"}, "content": "a,b\n\"c\"", "detail": "-2+3", "metadata": {},
        });
        let mut text = String::new();
        line(&mut text, &row.to_string());
        assert_eq!(
            text,
            "\"7\",,,,,\"'=HYPERLINK(\"\"http://evil\"\")\",,,,,\"a,b\n\"\"c\"\"\",\"'-2+3\",,,\"{}\",,\r\n"
        );
        assert_eq!(HEAD.split(',').count(), COLUMNS.len());
        for sly in ["+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"] {
            let mut text = String::new();
            cell(&mut text, sly);
            assert!(text.starts_with("\"'"), "{text:?}");
        }
    }
}
