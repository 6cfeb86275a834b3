import { createContext, type ReactNode, useContext, useSyncExternalStore } from "react";
import type { Api } from "./client";
import type { Session, SessionState } from "./session";
import type { ChatSocket, Connection } from "./socket";

export interface Services {
  readonly api: Api;
  readonly session: Session;
  readonly socket: ChatSocket;
}

const ServicesContext = createContext<Services | null>(null);

export function ServicesProvider(props: { services: Services; children: ReactNode }) {
  return <ServicesContext value={props.services}>{props.children}</ServicesContext>;
}

export function useServices(): Services {
  const services = useContext(ServicesContext);
  if (!services) throw new Error("useServices needs a ServicesProvider above it");
  return services;
}

export function useConnection(): Connection {
  const { socket } = useServices();
  return useSyncExternalStore(
    (notify) => socket.changed.on(notify),
    () => socket.state,
  );
}

export function useSessionState(): SessionState {
  const { session } = useServices();
  return useSyncExternalStore(
    (notify) => session.changed.on(notify),
    () => session.state,
  );
}
