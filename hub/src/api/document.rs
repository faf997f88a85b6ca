//! The OpenAPI document: made of the table of routes, so that it cannot say anything else.

use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};

use super::table;
use crate::policy::Access;

/// The OpenAPI document of [`table`].
pub fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Mosaic Mesh")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("API of the hub. Errors are `{\"error\":{\"code\",\"message\",\"requestId\"}}`."))
        .build();
    let mut api = OpenApiBuilder::new().info(info).build();
    let mut schemas = std::collections::BTreeMap::new();
    for route in table() {
        let (more, paths) = route.docs;
        schemas.extend(more);
        for (path, mut item) in paths.paths {
            let access = match route.access {
                Access::Public => "Public.".to_owned(),
                Access::SignedIn => "Needs a signed-in user.".to_owned(),
                Access::InPerson => "Needs a user signed in at a browser, no API token.".to_owned(),
                Access::AtLeast(role) => format!("Needs the role {role}."),
            };
            let operations = [
                ("get", &mut item.get),
                ("put", &mut item.put),
                ("post", &mut item.post),
                ("delete", &mut item.delete),
                ("patch", &mut item.patch),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                operation.operation_id = Some(operation_id(method, &path));
                let said = operation.description.take().unwrap_or_default();
                operation.description = Some(format!("{said}\n\n{access}").trim().to_owned());
            }
            match api.paths.paths.get_mut(&path) {
                Some(known) => known.merge_operations(item),
                None => drop(api.paths.paths.insert(path, item)),
            }
        }
    }
    let components = api.components.get_or_insert_default();
    components.schemas.extend(schemas);
    let error = <super::error::ErrorBody as utoipa::PartialSchema>::schema();
    components.schemas.insert("ErrorBody".into(), error);
    let detail = <super::error::ErrorDetail as utoipa::PartialSchema>::schema();
    components.schemas.insert("ErrorDetail".into(), detail);
    super::sse::add_event_schemas(components);
    api
}

/// `post` and `/api/mission-control/sessions/{id}/kill` give `postMissionControlSessionsIdKill`: unique, as the paths
/// are.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.trim_start_matches("/api").split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    words.fold(method.to_owned(), |id, word| id + &capital(word))
}
