use serde_json::Value;

use super::*;
