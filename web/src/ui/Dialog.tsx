import { X } from "lucide-react";
import { Dialog as Primitive } from "radix-ui";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";

interface Props {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description?: string;
  children: ReactNode;
}

/**
 * A modal dialog. The backdrop is a plain element: the primitive's own locks scrolling
 * through a style element made at run time, which the content security policy refuses.
 */
export function Dialog({ open, onOpenChange, title, description, children }: Props) {
  const { t } = useTranslation();
  return (
    <Primitive.Root open={open} onOpenChange={onOpenChange}>
      <Primitive.Portal>
        <div className="dialog-backdrop" aria-hidden />
        <Primitive.Content
          className="dialog"
          {...(description ? {} : { "aria-describedby": undefined })}
        >
          <header>
            <Primitive.Title>{title}</Primitive.Title>
            <Primitive.Close className="icon-button" aria-label={t("common.close")}>
              <X aria-hidden size={18} />
            </Primitive.Close>
          </header>
          {description && <Primitive.Description>{description}</Primitive.Description>}
          {children}
        </Primitive.Content>
      </Primitive.Portal>
    </Primitive.Root>
  );
}
