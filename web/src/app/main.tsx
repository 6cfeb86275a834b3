import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode, useEffect, useMemo, useState } from "react";
import { createRoot } from "react-dom/client";
import { ServicesProvider } from "../api/services";
import { ChatProvider } from "../features/chat/context";
import { watchTheme } from "../features/settings/theme";
import "../ui/theme.css";
import { type Boot, boot } from "./boot";
import { startI18n } from "./i18n";
import { createAppRouter } from "./router";
import { Splash, Unreachable } from "./screens";
import { type App, createApp } from "./services";

function Root({ app }: { app: App }) {
  const [state, setState] = useState<Boot>("starting");
  const router = useMemo(() => createAppRouter(app), [app]);
  useEffect(() => boot(app.session, setState), [app]);
  useEffect(() => app.session.changed.on(() => void router.invalidate()), [app, router]);
  if (state === "starting") return <Splash />;
  if (state === "unreachable") return <Unreachable />;
  return <RouterProvider router={router} />;
}

async function start(): Promise<void> {
  watchTheme();
  await startI18n();
  const app = createApp();
  const root = document.getElementById("root");
  if (!root) throw new Error("the page has no #root");
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={app.client}>
        <ServicesProvider services={app}>
          <ChatProvider chat={app.chat}>
            <Root app={app} />
          </ChatProvider>
        </ServicesProvider>
      </QueryClientProvider>
    </StrictMode>,
  );
}

void start();
