import type { components } from "./schema";

type Schemas = components["schemas"];

export type Instance = Schemas["Instance"];
export type TokenResponse = Schemas["TokenResponse"];
export type Me = Schemas["Me"];
export type Model = Schemas["Model"];
export type Status = Schemas["Status"];
export type Conversation = Schemas["Conversation"];
export type ConversationPage = Schemas["ConversationPage"];
export type Message = Schemas["Message"];
export type Usage = Schemas["Usage"];
export type GenerationStatus = Schemas["GenerationStatus"];
