//! What a NATS server has to be told: the part of its configuration that the identity decides.

use std::fmt::Write;
use std::path::Path;

use crate::tls::TlsFiles;

/// Where a server listens and keeps its things.
#[derive(Clone, Debug)]
pub struct ServerConfig<'a> {
    /// Its name, unique in a cluster.
    pub name: &'a str,
    /// Address and port, such as `127.0.0.1:4222`; port `-1` is any free one.
    pub listen: &'a str,
    /// Folder of JetStream's store.
    pub store_dir: &'a Path,
    /// Folder for the file that tells the ports; left out if absent.
    pub ports_dir: Option<&'a Path>,
    /// File for the server's log; it goes to stderr if absent.
    pub log_file: Option<&'a Path>,
    /// Certificates: with them no client gets in without TLS.
    pub tls: Option<&'a TlsFiles>,
}

impl ServerConfig<'_> {
    /// The configuration. `accounts` is the folder of account JWTs, into which the server also writes accounts that
    /// are pushed to it.
    pub(crate) fn text(&self, operator_jwt: &str, system_account: &str, accounts: &Path) -> String {
        let mut text = String::from("# Made by `mosaic identity server-config`; changes here do not last.\n");
        let mut line = |key: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key}: {value}");
        };
        line("server_name", &quoted(self.name));
        line("listen", &quoted(self.listen));
        if let Some(dir) = self.ports_dir {
            line("ports_file_dir", &quoted(&dir.to_string_lossy()));
        }
        if let Some(file) = self.log_file {
            line("log_file", &quoted(&file.to_string_lossy()));
            // One older file is kept beside it.
            line("logfile_size_limit", "16MB");
            line("logfile_max_num", "2");
        }
        line("max_payload", "1MB");
        if let Some(tls) = self.tls {
            let file = |path: &Path| quoted(&path.to_string_lossy());
            line("tls", &format!("{{ cert_file: {}, key_file: {}, timeout: 5 }}", file(&tls.cert), file(&tls.key)));
        }
        // How much a power cut can take, in time. Nodes keep what they published for longer than this.
        let store = quoted(&self.store_dir.to_string_lossy());
        line("jetstream", &format!("{{ store_dir: {store}, sync_interval: \"10s\" }}"));
        line("operator", &quoted(operator_jwt));
        line("system_account", &quoted(system_account));
        let accounts = quoted(&accounts.to_string_lossy());
        line("resolver", &format!("{{ type: full, dir: {accounts}, allow_delete: false, interval: \"2m\" }}"));
        text
    }
}

/// A string of the server's configuration language.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_and_who() {
        let config = ServerConfig {
            name: "mesh1",
            listen: "127.0.0.1:-1",
            store_dir: Path::new("/a \"b\"/js"),
            ports_dir: Some(Path::new("/run")),
            log_file: None,
            tls: None,
        };
        let text = config.text("JWT", "ASYS", Path::new("/acc"));
        for part in [
            "server_name: \"mesh1\"",
            "listen: \"127.0.0.1:-1\"",
            "ports_file_dir: \"/run\"",
            "max_payload: 1MB",
            "store_dir: \"/a \\\"b\\\"/js\", sync_interval: \"10s\"",
            "operator: \"JWT\"",
            "system_account: \"ASYS\"",
            "type: full, dir: \"/acc\"",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("log_file") && !text.contains("tls"));
    }
}
