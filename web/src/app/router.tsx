import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  Outlet,
  redirect,
  useLocation,
  useParams,
} from "@tanstack/react-router";
import { instanceQuery } from "../api/queries";
import { invitedWith } from "../features/invitations/useInvitations";
import { AuthPage } from "./AuthPage";
import { ChatPage } from "./ChatPage";
import { Crashed, PageNotFound } from "./screens";
import type { App } from "./services";

interface Context {
  app: App;
}

const root = createRootRouteWithContext<Context>()({ component: Outlet });

/** Only paths of this page may follow a sign-in: no open redirect. */
function safeRedirect(value: unknown): string | undefined {
  return typeof value === "string" && /^\/(?![/\\])/.test(value) ? value : undefined;
}

interface AuthSearch {
  redirect?: string;
}

function authSearch(search: Record<string, unknown>): AuthSearch {
  const target = safeRedirect(search["redirect"]);
  return target ? { redirect: target } : {};
}

function leaveWhenSignedIn({ context, search }: { context: Context; search: AuthSearch }): void {
  if (context.app.session.state === "signed_in") throw redirect({ to: search.redirect ?? "/" });
}

const loadInstance = ({ context }: { context: Context }) =>
  context.app.client.fetchQuery(instanceQuery(context.app.api));

const signIn = createRoute({
  getParentRoute: () => root,
  path: "/sign-in",
  validateSearch: authSearch,
  beforeLoad: leaveWhenSignedIn,
  loader: loadInstance,
  component: function SignInPage() {
    return <AuthPage mode="sign-in" instance={signIn.useLoaderData()} invite="" />;
  },
});

const signUp = createRoute({
  getParentRoute: () => root,
  path: "/sign-up",
  validateSearch: authSearch,
  beforeLoad: leaveWhenSignedIn,
  loader: loadInstance,
  component: function SignUpPage() {
    const invite = invitedWith(useLocation().hash);
    return <AuthPage mode="sign-up" instance={signUp.useLoaderData()} invite={invite} />;
  },
});

/** Everything behind the door; a new installation is led to its set-up. */
const inside = createRoute({
  getParentRoute: () => root,
  id: "inside",
  beforeLoad: async ({ context, location }) => {
    if (context.app.session.state === "signed_in") return;
    const instance = await loadInstance({ context });
    const search = location.href === "/" ? {} : { redirect: location.href };
    throw redirect({ to: instance.needs_setup ? "/sign-up" : "/sign-in", search });
  },
  // One page for all conversations, so that the list stays where it is between them.
  component: function InsidePage() {
    const { conversationId } = useParams({ strict: false });
    return <ChatPage conversationId={conversationId ?? null} />;
  },
});

const newChat = createRoute({
  getParentRoute: () => inside,
  path: "/",
});

const conversation = createRoute({
  getParentRoute: () => inside,
  path: "/c/$conversationId",
});

export function createAppRouter(app: App) {
  return createRouter({
    routeTree: root.addChildren([signIn, signUp, inside.addChildren([newChat, conversation])]),
    context: { app },
    defaultNotFoundComponent: PageNotFound,
    defaultErrorComponent: Crashed,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createAppRouter>;
  }
}
