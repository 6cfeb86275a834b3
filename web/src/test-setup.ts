import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";

// Bounds, not expectations: a busy machine must not fail a test that is only slow.
configure({ asyncUtilTimeout: 20_000 });

afterEach(cleanup);
